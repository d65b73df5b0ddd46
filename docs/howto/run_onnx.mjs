// Judge one picture, raw bytes of red, green, blue, with a file that mvgauss.onnx.export wrote:
//     node run_onnx.mjs MODEL.onnx PICTURE.raw HEIGHT WIDTH [LIMIT]
// The same package runs in browsers, where `fetch` takes the place of `readFile`.
import { readFile } from "node:fs/promises";
import * as ort from "onnxruntime-web";

const [model, picture, height, width, limit] = process.argv.slice(2);
const options = { logSeverityLevel: 3 }; // a warning says that the limit can be changed
const session = await ort.InferenceSession.create(await readFile(model), options);

const shape = [1, Number(height), Number(width), 3];
const pictures = new ort.Tensor("uint8", new Uint8Array(await readFile(picture)), shape);
const { pred_score, pred_label, anomaly_map } = await session.run({ pictures });

const score = pred_score.data[0];
// onnxruntime-web takes no optional inputs: another limit than the file's is compared here
const flagged = limit === undefined ? Boolean(pred_label.data[0]) : score > Number(limit);
const centre = anomaly_map.data[Math.floor(height / 2) * width + Math.floor(width / 2)];
const verdict = flagged ? "flagged" : "not flagged";
console.log(`score ${score}, ${verdict}, centre of the map ${centre}`);
