"""Lists that any system made, measured without a model: read, packed, judged, told by segments, compared."""
