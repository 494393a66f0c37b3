"""The ablation of text models on the same lists."""
