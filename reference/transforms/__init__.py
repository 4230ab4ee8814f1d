"""Pure array transforms that rules are composed of: one module per idea, for any library of the array API."""
