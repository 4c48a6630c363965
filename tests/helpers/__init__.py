"""What the tests share: models made by hand, stand-ins for devices and libraries, and the shared test data."""
