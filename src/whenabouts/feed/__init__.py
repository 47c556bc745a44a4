"""Corpus -> batches: order, gathering bytes, masks, dequantising on the device."""
