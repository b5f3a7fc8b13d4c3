"""Fit and predict: trees, a linear model, clusters, a pipeline."""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

x, y = load_iris(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=1, stratify=y)
forest = RandomForestClassifier(30, random_state=1, n_jobs=2).fit(x_train, y_train)
model = make_pipeline(StandardScaler(), LogisticRegression())
groups = KMeans(3, n_init=2, random_state=1).fit_predict(x)
all(
    (
        forest.score(x_test, y_test) > 0.9,
        cross_val_score(model, x, y, cv=3).mean() > 0.9,
        np.unique(groups).tolist() == [0, 1, 2],
    )
)
