"""Write the network of a PaDiM as ONNX, with its layers as outputs. It needs torch and onnxscript, once.

For anomalib: export(model.model.feature_extractor, ["layer1", "layer2", "layer3"], (256, 256), "net.onnx"),
with the model from `Padim.load_from_checkpoint` and the layers that it was trained with.
"""

import torch


class Layers(torch.nn.Module):
    """A network whose layers come as a dictionary, made to return them in a fixed order."""

    def __init__(self, network, layers):
        super().__init__()
        self.network, self.layers = network, layers

    def forward(self, pictures):
        """Return the layers of pictures (N, 3, height, width)."""
        found = self.network(pictures)
        return tuple(found[layer] for layer in self.layers)


def export(network, layers, input_size, output):
    """Export with any number of pictures in a batch."""
    torch.onnx.export(
        Layers(network, layers).eval(),
        (torch.zeros(2, 3, *input_size),),
        output,
        input_names=["pictures"],
        output_names=layers,
        dynamic_shapes={"pictures": {0: torch.export.Dim("N")}},
        dynamo=True,
        external_data=False,
    )
