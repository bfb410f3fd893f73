"""Train and eval mode, dropout and batch norm, in PyTorch."""

import torch
from torch import nn


def train_and_eval(x):
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3))
    model.train()
    model(x)
    model.eval()
    return torch.equal(model(x), model(x)), model[0].training


def dropout():
    torch.manual_seed(0)
    x = torch.ones(100, 200)
    y = nn.Dropout(p=0.2)(x)
    return (y == 0).float().mean(), y.max(), y.mean()


def same_mask(x):
    torch.manual_seed(0)
    keep = (torch.rand(len(x), 1, x.shape[2]) < 0.8).expand_as(
        x
    )  # the same at every time
    y = torch.where(keep, x / 0.8, 0.0)
    return torch.equal(y[:, 0] == 0, y[:, 1] == 0)


def batch_norm(x):
    norm = nn.BatchNorm1d(3, momentum=0.1, eps=1e-5)
    return norm(x), norm.running_mean


def batch_norm_in_eval(x, mean, variance):
    norm = nn.BatchNorm1d(3)
    norm.running_mean, norm.running_var = mean, variance
    norm.eval()
    return norm(x)


def freeze_batch_norm(x):
    model = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU())
    model.train()
    model[0].eval()  # train() of the whole model would undo it
    before = model[0].running_mean.clone()
    model(x)
    return torch.equal(before, model[0].running_mean), model.training
