"""Reading of torch and safetensors files into memory that the tensors own.

Decides what is safe to unpickle and which bytes the requested keys need.
May import `errors`, `_runtime`, `_arguments` and `_torchfile.strides`; never talks to a server.
"""
