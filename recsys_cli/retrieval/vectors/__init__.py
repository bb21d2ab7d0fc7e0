"""What sources with vectors share: the index of the items, products, the retriever itself."""
