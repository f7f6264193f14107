"""The HTML report: one file, inline SVG, no scripts and nothing fetched."""
