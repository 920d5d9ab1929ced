"""Models and bundles on a Hugging Face hub: names, downloads, model cards, push and pull.

huggingface_hub does the talking, so its environment variables count: ``HF_ENDPOINT``, ``HF_HOME``,
``HF_TOKEN``, ``HF_HUB_OFFLINE``. It is imported when something is asked of a hub.
"""
