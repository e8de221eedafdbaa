"""Where observations come from: one module per system API, all behind `DeviceSource`."""
