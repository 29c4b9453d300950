"""The family mobile-cnn: inverted residuals of MobileNetV2 and V3."""
