"""Pure array transforms that rules are composed of; one module per idea, every array library of the array API standard."""
