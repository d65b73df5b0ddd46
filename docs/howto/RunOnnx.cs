// Judge one picture, raw bytes of red, green, blue, with a file that mvgauss.onnx.export wrote.
//     RunOnnx MODEL.onnx PICTURE.raw HEIGHT WIDTH [LIMIT]
// Needs the package Microsoft.ML.OnnxRuntime.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

int height = int.Parse(args[2]), width = int.Parse(args[3]);
using var options = new SessionOptions
{
    // a warning says that the limit can be changed
    LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR
};
using var session = new InferenceSession(args[0], options);

var pixels = new DenseTensor<byte>(File.ReadAllBytes(args[1]), new[] { 1, height, width, 3 });
var inputs = new List<NamedOnnxValue> { NamedOnnxValue.CreateFromTensor("pictures", pixels) };
if (args.Length > 4) // another limit than that of the file
{
    var limit = new DenseTensor<float>(new[] { float.Parse(args[4]) }, new[] { 1 });
    inputs.Add(NamedOnnxValue.CreateFromTensor("threshold", limit));
}

using var outputs = session.Run(inputs);
var score = outputs.First(o => o.Name == "pred_score").AsTensor<float>();
var label = outputs.First(o => o.Name == "pred_label").AsTensor<bool>();
var map = outputs.First(o => o.Name == "anomaly_map").AsTensor<float>();
var verdict = label[0] ? "flagged" : "not flagged";
var centre = map[0, height / 2, width / 2];
Console.WriteLine($"score {score[0]}, {verdict}, centre of the map {centre}");
