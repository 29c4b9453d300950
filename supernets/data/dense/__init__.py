"""Images with boxes of objects or with a class for each pixel, read from the formats of other tools."""
