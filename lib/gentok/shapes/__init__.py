"""Part `shapes`: point clouds, meshes and views."""
