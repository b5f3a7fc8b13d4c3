"""Graphs: shortest paths, components, ranking."""

import networkx as nx

graph = nx.Graph()
graph.add_weighted_edges_from([("a", "b", 4), ("a", "c", 1), ("c", "b", 2), ("b", "d", 5)])
tree = nx.minimum_spanning_tree(graph)
all(
    (
        nx.shortest_path(graph, "a", "d", weight="weight") == ["a", "c", "b", "d"],
        tree.size(weight="weight") == 8,
        nx.is_connected(graph),
        list(nx.topological_sort(nx.DiGraph([(1, 2), (2, 3)]))) == [1, 2, 3],
        nx.number_of_nodes(nx.karate_club_graph()) == 34,
    )
)
