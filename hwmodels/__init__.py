"""What a network costs on a device: latency, energy, memory. Prices a workload and never sees a model."""
