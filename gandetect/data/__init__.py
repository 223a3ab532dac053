"""Reading X (arrays, tables, images, files, Datasets) into batches of samples."""
