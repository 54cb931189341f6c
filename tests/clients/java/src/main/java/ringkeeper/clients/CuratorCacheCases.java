package ringkeeper.clients;
final class CuratorCacheCases { static void register(Main.Cases cases) {} }
