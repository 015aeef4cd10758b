"""What the filter is compared with."""
