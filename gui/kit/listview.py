"""Lists: rows painted by columns, buttons and boxes to tick in rows, skeletons while nothing is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtCore import QEvent, QModelIndex, QPersistentModelIndex, QPoint, QRect, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QAction, QContextMenuEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractItemView, QListView, QMenu, QStyledItemDelegate, QStyleOptionViewItem

from gui import icons, paint
from gui import theme as themes
from gui.kit.columns import Cell, Column, Layout, RowButton, boxes
from gui.models.rows import ROW, Rows

Index = QModelIndex | QPersistentModelIndex
TICK = 28
"""Room that a box to tick takes."""


class _Delegate(QStyledItemDelegate):
    def __init__(self, view: List, layout: Layout) -> None:
        super().__init__(view)
        self._view, self._layout, self._theme = view, layout, themes.current()

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        return QSize(0, self._layout.height(index.data(ROW)))

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        row, theme, area = index.data(ROW), self._theme, option.rect
        chosen = self._view.current_key() == self._view.rows.key(row)
        over = self._view.hot == index.row()
        if chosen:
            token = "bg.selected" if self._view.hasFocus() else "bg.selected.inactive"
        else:
            token = "bg.hover" if over else self._layout.fill(row)
        painter.fillRect(area, theme.color(token))
        if chosen and self._view.hasFocus():
            painter.fillRect(area.x(), area.y(), 2, area.height(), theme.color("accent.solid"))
        if not chosen:
            line = theme.color("border.subtle")
            painter.fillRect(area.x(), area.bottom(), area.width(), 1, line)
        stale = self._view.rows.key(row) in self._view.rows.stale
        columns = self._layout.columns(row)
        for column, box in zip(columns, boxes(columns, area.width(), self._layout.edge), strict=True):
            room = QRectF(area.x() + box.x(), area.y(), box.width(), area.height() - 1)
            if column.tick and self._view.can_tick(row):
                on = self._view.rows.key(row) in self._view.rows.ticked
                paint.check(painter, theme, room.x(), room.center().y() - 8, on)
                room.setLeft(room.x() + TICK)
            if column.paint is not None:
                painter.save()
                column.paint(Cell(painter, theme, room, stale), row)
                painter.restore()
            if column.buttons is not None:
                for button, place in self.buttons(row, column, room):
                    self._button(painter, button, place, index.row())

    def buttons(self, row: Any, column: Column, room: QRectF) -> list[tuple[RowButton, QRectF]]:
        """The buttons of a cell and where they are, from its right edge."""
        made, right = [], room.right()
        high = self._theme.size("button.small")
        for button in reversed(column.buttons(row) if column.buttons else ()):
            if button.kind in {"on", "off"}:
                made.append((button, QRectF(right - 32, room.center().y() - 9, 32, 18)))
                right -= 36
                continue
            wide = 26 if not button.label else self._theme.metrics("label").horizontalAdvance(button.label) + 20
            made.append((button, QRectF(right - wide, room.center().y() - high / 2, wide, high)))
            right -= wide + 4
        return made[::-1]

    def _button(self, painter: QPainter, button: RowButton, box: QRectF, row: int) -> None:
        theme, over = self._theme, self._view.over_button == (row, button.name) and button.enabled
        if button.kind in {"on", "off"}:
            paint.switch(painter, theme, box, button.kind == "on")
            return
        outline = button.kind != "plain"
        fill = "bg.hover" if over else "bg.surface" if outline else None
        if not button.enabled:
            fill = "bg.subtle" if outline else None
        if fill:
            edge = theme.color("border.default") if outline else None
            paint.rounded(painter, box, theme.radius("control"), theme.color(fill), edge)
        color = "text.primary" if button.enabled else "text.disabled"
        if button.label:
            paint.text(painter, theme, box, button.label, "label", color, paint.CENTER)
        else:
            place = box.center()
            icons.draw(painter, button.icon, theme.color(color), place.x() - 7, place.y() - 7, 14)

    def hit(self, index: QModelIndex, area: QRect, spot: QPoint) -> RowButton | None:
        """The button under the pointer."""
        row = index.data(ROW)
        columns = self._layout.columns(row)
        for column, box in zip(columns, boxes(columns, area.width(), self._layout.edge), strict=True):
            if column.buttons is None:
                continue
            room = QRectF(area.x() + box.x(), area.y(), box.width(), area.height() - 1)
            for button, place in self.buttons(row, column, room):
                if place.adjusted(-1, -1, 1, 1).contains(spot):
                    return button
        return None


class List(QListView):
    """A list of rows. ``opened``: a row was clicked or came under the cursor; ``pressed``: a button in a row."""

    opened = Signal(str)
    pressed = Signal(str, str)
    left = Signal()
    ticked = Signal()
    """Other rows are ticked now, by their box, Space, or a click with Ctrl or Shift."""

    def __init__(self, rows: Rows, layout: Layout, name: str, uniform: bool = True) -> None:
        super().__init__()
        self.rows, self._look = rows, layout
        self._theme = themes.current()
        self._key = ""
        self.hot = -1
        self.over_button: tuple[int, str] | None = None
        self.skeleton = False
        self._row_menu: Callable[[Any], Sequence[RowButton]] = lambda _row: ()
        self.can_tick: Callable[[Any], bool] = lambda _row: False
        self.setModel(rows)
        self._delegate = _Delegate(self, layout)
        self.setItemDelegate(self._delegate)
        self.setUniformItemSizes(uniform)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setMouseTracking(True)
        self.viewport().setMouseTracking(True)
        self.setAccessibleName(name)
        self.setMinimumHeight(72)
        rows.shown.connect(self._keep_current)
        self._skeleton_timer = QTimer(self)
        self._skeleton_timer.setSingleShot(True)
        self._skeleton_timer.setInterval(200)
        self._skeleton_timer.timeout.connect(self._show_skeleton)

    def set_edge(self, pad: int) -> None:
        """Room at both sides of a row."""
        self._look.edge = pad
        self.viewport().update()

    def current_key(self) -> str:
        """Key of the selected row; empty where none is."""
        return self._key

    def choose(self, key: str, tell: bool = True) -> None:
        """Select the row of a key, or none."""
        place = self.rows.find(key) if key else -1
        self._key = key if place >= 0 else ""
        if place >= 0:
            self.setCurrentIndex(self.rows.index(place))
            self.scrollTo(self.rows.index(place))
        else:
            self.clearSelection()
            self.setCurrentIndex(QModelIndex())
        self.viewport().update()
        if tell and self._key:
            self.opened.emit(self._key)

    def step(self, by: int) -> None:
        """Select the next or the previous row."""
        place = self.rows.find(self._key) if self._key else -1
        wanted = max(0, min(self.rows.rowCount() - 1, place + by))
        if self.rows.rowCount():
            self.choose(self.rows.key(self.rows.rows[wanted]))

    def reading(self) -> bool:
        """Whether rows must not move now: scrolled, a row selected, or the pointer over the list."""
        return self.verticalScrollBar().value() > 0 or bool(self._key) or self.hot >= 0

    def wait(self) -> None:
        """Nothing is there yet: show a skeleton after 200 ms."""
        self._skeleton_timer.start()

    def ready(self) -> None:
        """Something is there, or it is known that there is nothing."""
        self._skeleton_timer.stop()
        if self.skeleton:
            self.skeleton = False
            self.viewport().update()

    def set_menu(self, menu: Callable[[Any], Sequence[RowButton]]) -> None:
        """The context menu of a row: the same names that ``pressed`` tells."""
        self._row_menu = menu

    def button_box(self, key: str, name: str) -> QRect:
        """Where a row's button is in the viewport; for keyboards, readers and tests. Null where it is not."""
        place = self.rows.find(key)
        if place < 0:
            return QRect()
        index = self.rows.index(place)
        area, row = self.visualRect(index), self.rows.rows[place]
        columns = self._look.columns(row)
        for column, box in zip(columns, boxes(columns, area.width(), self._look.edge), strict=True):
            room = QRectF(area.x() + box.x(), area.y(), box.width(), area.height() - 1)
            for button, spot in self._delegate.buttons(row, column, room) if column.buttons else ():
                if button.name == name:
                    return spot.toRect()
        return QRect()

    def tick_box(self, key: str) -> QRect:
        """Where the box of a row is; empty where it has none."""
        place = self.rows.find(key)
        row = self.rows.rows[place] if place >= 0 else None
        if row is None or not self.can_tick(row):
            return QRect()
        area, columns = self.visualRect(self.rows.index(place)), self._look.columns(row)
        for column, box in zip(columns, boxes(columns, area.width(), self._look.edge), strict=True):
            if column.tick:
                return QRectF(area.x() + box.x() - 4, area.center().y() - 12, 24, 24).toRect()
        return QRect()

    def untick(self) -> bool:
        """Tick none; False where none was."""
        return self._tick(set())

    def _tick(self, wanted: set[str]) -> bool:
        if wanted == self.rows.ticked:
            return False
        self.rows.ticked = wanted
        self.viewport().update()
        self.ticked.emit()
        return True

    def _range(self, key: str) -> set[str]:
        """Rows from the current one to this that can be ticked."""
        first, last = sorted((max(0, self.rows.find(self._key)), self.rows.find(key)))
        return {self.rows.key(row) for row in self.rows.rows[first : last + 1] if self.can_tick(row)}

    def _ticks(self, event: QMouseEvent, key: str) -> bool:
        """Whether a click was on a box, or held Ctrl or Shift, and so ticks instead of opening."""
        held = event.modifiers()
        if held & Qt.KeyboardModifier.ShiftModifier:
            self._tick(self.rows.ticked | self._range(key))
        elif held & Qt.KeyboardModifier.ControlModifier or self.tick_box(key).contains(event.position().toPoint()):
            self._tick(self.rows.ticked ^ {key})
        else:
            return False
        return True

    def _keep_current(self) -> None:
        place = self.rows.find(self._key) if self._key else -1
        if self._key and place < 0:
            self._key = ""
            self.left.emit()
        elif place >= 0 and self.currentIndex().row() != place:
            self.setCurrentIndex(self.rows.index(place))

    def _show_skeleton(self) -> None:
        self.skeleton = True
        self.viewport().update()

    def currentChanged(self, current: Index, previous: Index) -> None:
        super().currentChanged(current, previous)
        if not current.isValid():
            return
        key = self.rows.key(current.data(ROW))
        if key != self._key and self.hasFocus():
            self._key = key
            self.viewport().update()
            self.opened.emit(key)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        index = self.indexAt(event.position().toPoint())
        if event.button() == Qt.MouseButton.LeftButton and index.isValid():
            hit = self._delegate.hit(index, self.visualRect(index), event.position().toPoint())
            key = self.rows.key(index.data(ROW))
            if hit is not None:
                if hit.enabled:
                    self.pressed.emit(key, hit.name)
                return
            if self.can_tick(index.data(ROW)) and self._ticks(event, key):
                return
            self._key = key
            super().mousePressEvent(event)
            self.viewport().update()
            self.opened.emit(key)
            return
        super().mousePressEvent(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        index = self.indexAt(event.position().toPoint())
        hit = self._delegate.hit(index, self.visualRect(index), event.position().toPoint()) if index.isValid() else None
        over = (index.row(), hit.name) if hit is not None else None
        if index.row() != self.hot or over != self.over_button:
            self.hot, self.over_button = index.row(), over
            self.viewport().update()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.hot, self.over_button = -1, None
        self.viewport().update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in {Qt.Key.Key_Return, Qt.Key.Key_Enter} and self._key:
            self.opened.emit(self._key)
            return
        if event.key() == Qt.Key.Key_Space and self._key and self.can_tick(self.rows.get(self._key)):
            self._tick(self.rows.ticked ^ {self._key})
            return
        if event.text() and event.text().isprintable() and not event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            event.ignore()  # single letters are the page's shortcuts, not a search
            return
        super().keyPressEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        by_key = event.reason() == QContextMenuEvent.Reason.Keyboard
        index = self.currentIndex() if by_key else self.indexAt(event.pos())
        if not index.isValid():
            return
        spot = self.viewport().mapToGlobal(self.visualRect(index).center()) if by_key else event.globalPos()
        row = index.data(ROW)
        key, menu = self.rows.key(row), QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        for entry in self._row_menu(row):
            action = QAction(entry.label, menu)
            action.setEnabled(entry.enabled)
            action.triggered.connect(lambda _=False, name=entry.name: self.pressed.emit(key, name))
            menu.addAction(action)
        if menu.actions():
            menu.popup(spot)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self.skeleton and not self.rows.rowCount():
            self._paint_skeleton()

    def _paint_skeleton(self) -> None:
        painter, theme = QPainter(self.viewport()), self._theme
        high = theme.size("row.two")
        bar = theme.color("bg.pressed")
        wide = self.viewport().width()
        for place in range(6):
            top = place * high
            paint.rounded(painter, QRectF(24, top + 14, 24, 24), 6, bar)
            paint.rounded(painter, QRectF(60, top + 21, wide * (0.42 + 0.05 * (place % 3)), 10), 4, bar)
            paint.rounded(painter, QRectF(wide - 24 - 72, top + 21, 72, 10), 4, bar)
            painter.fillRect(0, top + high - 1, wide, 1, theme.color("border.subtle"))
