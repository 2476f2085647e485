"""Part `backbones`: networks that other systems stand on."""
