"""Writing the ONNX graph from a module tree, and reading what an ONNX file says about itself."""
