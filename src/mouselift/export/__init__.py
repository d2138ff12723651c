"""Results on disk: splat files, pictures, films, pages."""
