// Judge one picture, raw bytes of red, green, blue, with a file that mvgauss.onnx.export wrote.
//     run_onnx MODEL.onnx PICTURE.raw HEIGHT WIDTH [LIMIT]
#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <vector>

int main(int argc, char** argv) {
    if (argc < 5)
        return std::fprintf(stderr, "MODEL.onnx PICTURE.raw HEIGHT WIDTH [LIMIT]\n"), 2;
    const int64_t height = std::atoll(argv[3]), width = std::atoll(argv[4]);
    std::ifstream file(argv[2], std::ios::binary);
    std::vector<uint8_t> pixels{std::istreambuf_iterator<char>(file), {}};
    if (pixels.size() != size_t(3 * height * width))
        return std::fprintf(stderr, "another size\n"), 2;

    Ort::Env env(ORT_LOGGING_LEVEL_ERROR);  // a warning says that the limit can be changed
    Ort::SessionOptions options;
#ifdef _WIN32
    std::wstring path(argv[1], argv[1] + std::char_traits<char>::length(argv[1]));
#else
    std::string path = argv[1];
#endif
    Ort::Session session(env, path.c_str(), options);

    auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const std::vector<int64_t> shape{1, height, width, 3};
    std::vector<const char*> input_names{"pictures"};
    std::vector<Ort::Value> inputs;
    inputs.push_back(Ort::Value::CreateTensor(memory, pixels.data(), pixels.size(),
                                              shape.data(), shape.size()));
    float limit = 0;
    if (argc > 5) {  // another limit than that of the file: a scalar, of no axes
        limit = std::strtof(argv[5], nullptr);
        input_names.push_back("threshold");
        inputs.push_back(Ort::Value::CreateTensor(memory, &limit, 1, nullptr, 0));
    }
    const std::vector<const char*> output_names{"pred_score", "pred_label", "anomaly_map"};
    auto outputs = session.Run(Ort::RunOptions{}, input_names.data(), inputs.data(),
                               inputs.size(), output_names.data(), output_names.size());
    const float* map = outputs[2].GetTensorData<float>();  // row by row
    std::printf("score %.6g, %s, centre of the map %.6g\n",
                outputs[0].GetTensorData<float>()[0],
                outputs[1].GetTensorData<bool>()[0] ? "flagged" : "not flagged",
                map[height / 2 * width + width / 2]);
}
