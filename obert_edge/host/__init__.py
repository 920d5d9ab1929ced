"""The host wing: what makes bundles. It may need torch and transformers; a device never imports it."""
