"""Graph to graph, graph to program, program to program: the compiler's passes."""
