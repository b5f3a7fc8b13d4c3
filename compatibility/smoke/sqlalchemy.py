"""Tables as classes over a database in memory and one in the working directory."""

from sqlalchemy import ForeignKey, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list["Book"]] = relationship()


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))


counts = []
for url in ("sqlite://", "sqlite:///books.sqlite"):
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Author(name="A", books=[Book(title="one"), Book(title="two")]))
        session.commit()
        counted = select(Author.name, func.count(Book.id)).join(Book).group_by(Author.name)
        counts += session.execute(counted).all()
    engine.dispose()
all(([tuple(row) for row in counts] == [("A", 2), ("A", 2)],))
