"""The Kalman step under association weights."""
