"""The pages that people look at: server-rendered, with charts drawn in the browser from the same figures."""
