"""The mouse as a body: skeleton, skinned mesh, and how a pose moves them."""
