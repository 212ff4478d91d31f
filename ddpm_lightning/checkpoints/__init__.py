"""Files of trained models: the card that describes a model, its weights, and how both are read without running code."""
