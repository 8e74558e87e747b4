"""What each command does, as its ``--help`` begins. The list of commands has the first lines.

The texts are here, and not in the docstrings of the commands, so that the list of commands imports
none of them. A paragraph is one string, because a line end in it would break the line in every
terminal.
"""

AGAIN = "If it is stopped or killed, run the same command again to continue."

DESCRIPTIONS = {
    "demo": f"Train the four models of the paper on a small corpus, and write a report.\n\n{AGAIN}",
    "train": "Train one model from a recipe.\n\n"
    "For example:\n\n"
    "    tiedlm train small-real --data my.txt --out runs/mine\n\n"
    "Run the same command again to resume where it stopped. Most flags change a setting of the "
    "recipe; --show prints every setting with its value.",
    "evaluate": "Compute the perplexity of a trained model.\n\n"
    "The text is one stream: the state is carried from the first word to the last, and every token "
    "except the very first is predicted. <eos> and <unk> count as words.\n\n"
    "The methods can be combined. They apply in this order: --dynamic or --mc, --temperature, "
    "--cache, --mix. docs/evaluation.md has their equations.",
    "compare": "Compare runs side by side.\n\n"
    "Runs that differ only in their seed share a row; --device, --threads and --accumulate may "
    "differ too. An unfinished run has a row of its own, with its best validation perplexity so "
    "far. Runs of pieces are compared per word, and with each other only.\n\n"
    "The difference is from the first row: in test perplexity if both rows have one, otherwise in "
    "validation perplexity. After a validation or test perplexity stands its standard deviation "
    "over seeds, after a difference half of its 95% interval. The interval is paired by seed: two "
    "seeds give a very wide one.",
    "reproduce": "Reproduce the paper's tables and figures, beside the paper's numbers.\n\n"
    "table1, table2 and figure1 train models. table3 and figure2 use the runs of table1, and "
    "predictions compares its baseline with its REAL. Finished runs are kept in --results, without "
    f"weights or text. {AGAIN}",
    "predict": "Show the most probable next words.",
    "generate": "Generate text with a model.",
    "score": "Compute surprisal, entropy and rank of every word of a text.\n\n"
    "The result is a tab-separated table with a header; docs/scoring.md describes the columns. A "
    "summary goes to standard error.",
    "pairs": "Judge minimal pairs, such as BLiMP's, by the probability of their sentences.\n\n"
    "A pair is right if the good sentence is more probable than the bad one. The first word is "
    "predicted after <eos>, so it counts. A tie counts as wrong. Accuracies have Wilson's 95% "
    "interval. docs/scoring.md describes the formats.",
    "rescore": "Rescore n-best lists of a speech recogniser.\n\n"
    "The best hypothesis of each list is written. The total of a hypothesis of n words is score + "
    "lm-scale * (graph + (1 - weight) * lm + weight * new - penalty * n). Here new is this model's "
    "log-probability, lm the score of the recogniser's own language model, and graph the rest of "
    "its graph. lm and graph are 0 if the list does not separate them. docs/scoring.md shows the "
    "formats that can be read.",
    "export": "Export a model to Hugging Face transformers or ONNX.\n\n"
    "hf writes a folder with a tokenizer, which transformers loads without tiedlm "
    "(trust_remote_code=True). onnx writes a model whose state is input and output, and the two "
    "models that icefall and sherpa-onnx read.",
    "import": "Import a checkpoint of pytorch/examples or neural-complexity.\n\n"
    "It may be an LSTM, GRU or RNN of either program, or a Transformer of the first one. The "
    "checkpoint must be a state dict. For a pickled module the error shows the lines that convert "
    "it.",
    "analyze": "Show subspace distance, principal angles, neighbours and norms of a model.",
    "explore": "Show models in a local page: next words, soft targets, neighbours, curves.\n\n"
    "Open the address that is printed; only this machine can. The command reads the run folders "
    "and writes nothing. Ctrl-C ends it.",
    "info": "Show versions, threads and arithmetic on this machine.",
}
