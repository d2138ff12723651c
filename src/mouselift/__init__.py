"""MouseLift: one picture of a laboratory mouse in, a 3D Gaussian model out."""
