"""Files: written whole or not at all, over no input; the bytes of safetensors files and of JSON documents."""
