"""Problems whose prices, weights and units stand only in a collection of documents."""
