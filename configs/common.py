"""Every field of the configuration, with the defaults of the method."""

import ml_collections
from ml_collections import config_dict


def get_config() -> ml_collections.ConfigDict:
    """The default configuration: ResNet-50 on three qualities."""
    config = ml_collections.ConfigDict()

    config.model = ml_collections.ConfigDict()
    config.model.name = "resnet50"
    config.model.dtype = "float32"  # of the computation; parameters and statistics are float32
    # .pth, .safetensors or a run's folder to start from, or "imagenet"; empty: from scratch
    config.model.pretrained = ""

    # One dataset, or a list of them, each with these fields: training then draws from all.
    dataset = ml_collections.ConfigDict()
    config.dataset = config_dict.FieldReference(dataset, field_type=object)
    config.dataset.name = "synthetic_faces"
    config.dataset.data_dir = ""  # where built datasets are; empty: $TFDS_DATA_DIR or TFDS's own
    config.dataset.manual_dir = ""  # the folder that was downloaded by hand
    config.dataset.manifest = ""  # data.json, for dataset.name = "manifest"
    config.dataset.in_memory = False  # keep decoded tuples: for datasets smaller than the memory
    config.dataset.exclude_methods = ()  # training and validation do without their records
    config.dataset.weight = 1.0  # in a list: the share of the tuples, relative to the others

    config.qualities = ("raw", "c23", "c40")  # trained on and evaluated
    config.qualities_at_once = 0  # of each tuple in a step of training, drawn anew; 0: all of them
    config.image_size = 224  # px; each crop is resized once, to a square of this side

    # 'balanced': as many real as fake in each batch; 'pairs': a fake beside a real of its identity;
    # 'twins': beside the real that it was made from
    config.sampling = "natural"
    # Besides mirroring, drawn for each tuple of training, all qualities alike; see docs/training.md
    config.augment = ml_collections.ConfigDict()
    config.augment.crop = 1.0  # least side of a random window of the crop; 1: the whole crop
    config.augment.colour = 0.0  # largest change of each colour's gain and of log gamma
    config.augment.lens = 0.0  # how far the middle is enlarged or shrunk, at most 0.5
    config.augment.turn = 0.0  # largest turn, in degrees
    config.augment.warp = 0.0  # deviation of a smooth uneven movement, in parts of the side
    config.augment.overlay = 0.0  # chance of words, a mask, glasses or the like over the face

    config.batch_size = 64  # tuples, over all devices; each tuple is one image a quality
    config.accumulate_steps = 1  # parts of a batch, one in memory at a time; see docs/training.md
    config.remat = False  # blocks are computed again in the backward pass: less memory, more time
    config.num_epochs = 32
    config.num_steps = 0  # where positive, the length of training, whatever num_epochs says
    config.head_only_epochs = 3  # the backbone stands still, statistics included

    # Adam with coupled weight decay; one cosine cycle of the learning rate
    config.learning_rate = 2e-4  # the peak
    config.weight_decay = 1e-4
    config.one_cycle = ml_collections.ConfigDict()
    config.one_cycle.pct_start = 0.05  # share of all steps in which the rate rises
    config.one_cycle.div_factor = 25.0  # peak over initial rate
    config.one_cycle.final_div_factor = 1e4  # initial over final rate

    config.ema_decay = 0.0  # of averaged weights, which are then evaluated (0.999); 0: off

    config.awp = ml_collections.ConfigDict()
    config.awp.gamma = 0.002  # perturbation relative to each weight tensor; 0: off
    config.awp.warmup_epochs = 3.0  # epochs, or a part of one, before the first perturbation

    # The ascent step climbs the whole objective: cross-entropy (mean over qualities) minus
    # weight x HSIC (mean over pairs of qualities, weighted over layers).
    config.hsic = ml_collections.ConfigDict()
    config.hsic.estimator = "debiased_cka"
    config.hsic.warmup_epochs = 0  # its weight rises over these, once the backbone moves
    config.hsic.weight = 0.1  # suits debiased_cka, which is at most 1; see docs/method.md
    config.hsic.sigma = 6.0
    config.hsic.layer_weights = (0.1, 0.25, 0.5, 0.0, 0.0, 0.0)  # 4 stages, pooled, logits

    # Also learn where the face was changed; needs sampling 'twins'. See docs/training.md
    config.localise = ml_collections.ConfigDict()
    config.localise.weight = 0.0  # of its loss beside the cross-entropy; 0: off

    # Epochs without a better mean validation AUC after which training ends; 0: never
    config.early_stop_patience = 100

    config.seed = 41
    config.log_every_steps = 10
    config.checkpoint_every_steps = 0  # besides the end of each epoch; 0: only there
    return config
