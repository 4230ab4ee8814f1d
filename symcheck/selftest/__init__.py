"""The test of the tester: mutants that every check must catch, and correct optimizers that none may accuse."""
