package ringkeeper.clients;
final class CuratorLockCases { static void register(Main.Cases cases) {} }
