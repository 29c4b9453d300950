"""The family resnet: bottleneck blocks of ResNet-50D."""
