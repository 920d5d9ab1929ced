"""The device wing: what runs on the device, with Python >= 3.9 and numpy alone; a bundle carries it whole."""
