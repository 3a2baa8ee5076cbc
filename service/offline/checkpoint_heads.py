"""The heads of sequence classifiers of the BERT family: one dense layer, then the labels."""

from dataclasses import dataclass

from torch import Tensor, nn

from service.errors import CheckpointInvalid
from service.offline.encoder import Encoder
from service.offline.heads import Activation, ClassificationModel, Projection
from service.offline.label_files import ClassifierUse


@dataclass(frozen=True)
class Head:
    """What a checkpoint has on top of its encoder's first token, and what its answers mean."""

    use: ClassifierUse
    projection: Projection
    classifier: nn.Linear


@dataclass(frozen=True)
class _Names:
    """How a family calls the two layers, and what stands between them."""

    dense: str
    activation: Activation
    classifier: str


_ROBERTA = _Names("classifier.dense", "tanh", "classifier.out_proj")
_NAMES = {
    "bert": _Names("bert.pooler.dense", "tanh", "classifier"),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "distilbert": _Names("pre_classifier", "relu", "classifier"),
}


def load_head(tensors: dict[str, Tensor], family: str, use: ClassifierUse) -> Head:
    """The head among the checkpoint's tensors.

    Args:
        family: the config's `model_type`, one of the packed families.

    Raises:
        CheckpointInvalid: a tensor is missing, or the labels are not as many as the logits.
    """
    names = _NAMES[family]
    dense = _linear(tensors, names.dense)
    projection = Projection(dense.in_features, dense.out_features, names.activation)
    projection.dense = dense
    classifier = _linear(tensors, names.classifier)
    if classifier.out_features != len(use.labels):
        raise CheckpointInvalid(
            f"{len(use.labels)} labels in config.json for {classifier.out_features} logits: name "
            "each in id2label"
        )
    return Head(use, projection.eval(), classifier)


def classification_model(encoder: Encoder, head: Head) -> ClassificationModel:
    """Encoder and head as one model that answers logits."""
    model = ClassificationModel(
        encoder, "cls", head.classifier.out_features, projection=head.projection
    )
    model.classifier = head.classifier
    return model.eval()


def _linear(tensors: dict[str, Tensor], name: str) -> nn.Linear:
    try:
        weight, bias = tensors[f"{name}.weight"].float(), tensors[f"{name}.bias"].float()
    except KeyError as error:
        raise CheckpointInvalid(
            f"the checkpoint lacks {error}: its config.json calls it a sequence classifier"
        ) from error
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer
