"""Accuracies that the paper prints (arXiv 2506.06856, table 1), in percent; TRANCE's are partial-credit scores."""

# The test sets of the table, in its order: (task, set, heading).
COLUMNS = (
    ("clevr_math", "id", "Clevr-Math"),
    ("clevr_math", "ood", "Super-CLEVR"),
    ("geomath", "id", "GeoMath"),
    ("geomath", "ood", "Geometry3K"),
    ("trance", "id", "TRANCE"),
    ("trance", "ood_left", "TRANCE-L"),
    ("trance", "ood_right", "TRANCE-R"),
)
# What a method is called in the table and in figures, in the table's order; the paper prints no row for the last
# two, and the last is not its rule but ours.
METHODS = {
    "zero_shot": "Zero-shot",
    "ans_sft": "ANS-SFT",
    "cot_sft": "CoT-SFT",
    "grpo": "Reason-RFT-Zero (GRPO)",
    "reason_rft": "Reason-RFT",
    "ekipl": "Vision-EKIPL",
    "cot_sft_ekipl": "CoT-SFT + Vision-EKIPL",
    "ekipl_plus": "Vision-EKIPL+",
}
OTHER_MODELS = {
    "GPT-4o-2024-08-06": (68.10, 34.31, 50.18, 43.49, 42.55, 28.67, 29.76),
    "Gemini-1.5-Pro": (61.80, 37.50, 50.12, 48.38, 26.22, 18.76, 19.88),
    "Qwen2.5-VL-3B": (75.90, 39.30, 36.75, 37.44, 8.57, 8.26, 8.31),
    "Phi-3.5-Vision-4B": (21.40, 15.20, 36.83, 50.25, 7.42, 2.45, 4.02),
    "Llava-OneVision-7B": (69.70, 29.10, 77.63, 43.66, 10.00, 8.33, 8.74),
    "Qwen2.5-VL-7B": (74.60, 35.20, 44.00, 45.61, 19.63, 13.12, 13.42),
    "InternVL-2.5-8B": (93.50, 35.30, 63.00, 47.32, 7.19, 6.62, 6.63),
    "Llama-3.2-11B-Vision": (10.30, 9.50, 13.75, 20.85, 8.22, 8.40, 9.03),
    "Pixtral-12B": (42.60, 22.90, 30.38, 36.09, 7.35, 5.03, 5.22),
}
# (model, method) of Qwen2-VL.
QWEN2_VL = {
    ("2b", "zero_shot"): (82.40, 32.00, 25.86, 20.63, 3.78, 4.60, 4.67),
    ("2b", "ans_sft"): (96.20, 39.20, 51.34, 22.50, 77.39, 49.24, 50.33),
    ("2b", "cot_sft"): (85.50, 46.50, 43.05, 25.25, 64.37, 43.19, 42.86),
    ("2b", "grpo"): (98.40, 44.80, 47.68, 32.50, 42.13, 34.07, 33.41),
    ("2b", "reason_rft"): (96.80, 51.20, 49.03, 33.13, 74.61, 64.05, 64.08),
    ("2b", "ekipl"): (99.10, 52.30, 49.70, 34.50, 78.23, 65.12, 65.45),
    ("7b", "zero_shot"): (98.60, 42.10, 43.30, 43.88, 13.53, 12.72, 12.78),
    ("7b", "ans_sft"): (95.00, 33.90, 51.34, 25.38, 82.19, 54.29, 54.83),
    ("7b", "cot_sft"): (87.30, 42.40, 50.49, 33.00, 81.31, 47.90, 47.80),
    ("7b", "grpo"): (99.40, 53.00, 55.00, 54.75, 67.67, 57.20, 56.15),
    ("7b", "reason_rft"): (95.60, 51.00, 59.27, 49.25, 79.97, 59.36, 58.61),
    ("7b", "ekipl"): (99.70, 53.30, 60.10, 56.75, 83.32, 62.35, 60.47),
}
