"""From what the user has (arrays, tables, images, files, Datasets) to batches of samples."""
