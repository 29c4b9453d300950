"""The convolutional families, mobile-cnn and resnet, and their base."""
