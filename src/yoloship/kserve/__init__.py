"""The open inference protocol of KServe, version 2, which Triton speaks: tensors as JSON and as bytes."""
