"""The networks: GS-LRM (posed views to Gaussians) and the multi-view generator (one view to six)."""
