"""A residual network for handwritten digits: how it is built, trained, and handed to tightfit."""
