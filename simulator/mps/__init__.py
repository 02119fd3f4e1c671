"""A stand-in for nvidia-cuda-mps-control: real daemons, sockets and servers, without a GPU."""
