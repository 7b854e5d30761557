"""One run: assembled, forecast, carried out."""
