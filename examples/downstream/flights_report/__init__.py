"""Three assets downstream of the demo's connection `flights`."""
