"""Networks over the order of what people did: GRU4Rec, SASRec, BERT4Rec."""
