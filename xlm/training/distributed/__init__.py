"""Several processes in one training: devices, exchange between ranks, a watchdog."""
