"""Package and pins. Every version the project depends on is named here, once; INSTALL means `pip install -e .[dev]`.

The set was resolved together for Python 3.11 to 3.13. TRL is pinned exactly because `trainer.py` patches its seams
(see UPSTREAM.md and `tests/test_trl_contract.py`); litellm 1.82.7 and 1.82.8 were compromised and must never be used.
"""

from setuptools import find_packages, setup

CORE = [
    "torch==2.13.0",
    "torchvision==0.28.0",  # Qwen2-VL's processor needs it even for still images
    "transformers==5.17.0",
    "trl==1.16.0",
    "accelerate==1.15.0",
    "peft==0.21.2",
    "datasets==5.2.0",
    "filelock",
    "psutil",  # as accelerate asks for it; tells whether the process behind an open call still lives
    "pyarrow",  # as datasets asks for it; bought replies are handed on as Parquet
    "huggingface-hub",  # as transformers pins it; the download uses it directly
    "litellm==1.106.2",
    "aiohttp",  # as litellm pins it; own servers are spoken to directly
    "openai",  # as litellm pins it: its errors tell a server's answer from litellm's own words
    "httpx",  # as litellm and huggingface-hub pin it
    "wandb==0.31.0",
    "pydantic",  # as litellm asks for it; the recipe and what comes from outside are checked by it
    "omegaconf==2.4.0",
    "matplotlib==3.11.2",
    "numpy>=2.3,<2.5",  # 2.4 alone; vllm 0.31 asks for less than 2.4
    "scipy==1.17.1",
    "pillow==13.0.0",
    "tqdm==4.70.1",
    "rich==15.0.0",
]
DEV = [
    "math-verify==0.9.0",  # what scripts hold our graders against
    "pytest==9.2.0",
    "pytest-timeout==2.4.0",
    "pytest-xdist==3.8.0",
    "hypothesis==6.170.15",
    "ruff==0.17.6",
    "pyright[nodejs]==1.1.414",  # with its own Node, so that nothing is fetched at run time
    "import-linter==2.16",
    "setuptools",  # pyright and editable installs want it at hand
]
DEEPSPEED = ["deepspeed==0.19.8", "ninja"]  # runs on a CPU as well; ninja builds its operators at the first use
REHEARSE = ["dashscope>=2.0,<3"]  # `make rehearse`: Qwen2's byte-pair ranks, where no hub is
# GPU extras are optional: flash-attn compiles against the installed torch (`--no-build-isolation`).
GPU = ["vllm==0.31.0", *DEEPSPEED, "flash-attn==2.8.3.post2"]

setup(
    name="open-r1",
    version="0.1.0",
    license="Apache-2.0",
    license_files=["LICENSE"],
    description="Vision-EKIPL: reinforcement learning of vision-language models with external candidates",
    package_dir={"": "src"},
    packages=find_packages("src"),
    package_data={"open_r1": ["page/*"]},  # what gallery.py puts a run into
    python_requires=">=3.11,<3.14",
    install_requires=CORE,
    extras_require={"dev": DEV, "gpu": GPU, "deepspeed": DEEPSPEED, "rehearse": REHEARSE},
)
